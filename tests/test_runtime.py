import threading

import torch

from wsdemo.runtime import one_thread


def test_one_thread_is_for_the_calling_thread_and_only_while_inside():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    inside, go = threading.Event(), threading.Event()
    seen = {}

    def measuring():
        with one_thread():
            seen["inside"] = torch.get_num_threads()
            inside.set()
            go.wait(20)
        seen["after"] = torch.get_num_threads()

    worker = threading.Thread(target=measuring)
    worker.start()
    inside.wait(20)
    newcomer = threading.Thread(target=lambda: seen.update(new=torch.get_num_threads()))
    newcomer.start()
    newcomer.join()
    seen["main"] = torch.get_num_threads()
    go.set()
    worker.join()
    torch.set_num_threads(before)
    assert seen == {"inside": 1, "after": 2, "new": 2, "main": 2}
